// A bare echo on grpc-go, the yardstick of a compiled server: every call is answered with the same bytes.
//
// Requests and responses stay bytes, so no code is generated from protocol buffers. Run with GOMAXPROCS=1.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc"
)

// bytesCodec passes messages on as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(message any) ([]byte, error) { return *message.(*[]byte), nil }

func (bytesCodec) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = bytes.Clone(data)
	return nil
}

func (bytesCodec) Name() string { return "bytes" }

// service returns the description of an echo that answers with response.
func service(response []byte) *grpc.ServiceDesc {
	unary := func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var request []byte
		return &response, decode(&request)
	}
	stream := func(_ any, stream grpc.ServerStream) error {
		for {
			var request []byte
			if err := stream.RecvMsg(&request); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := stream.SendMsg(&response); err != nil {
				return err
			}
		}
	}
	return &grpc.ServiceDesc{
		ServiceName: "benchmarks.Echo",
		HandlerType: (*any)(nil),
		Methods:     []grpc.MethodDesc{{MethodName: "Echo", Handler: unary}},
		Streams: []grpc.StreamDesc{
			{StreamName: "EchoStream", Handler: stream, ServerStreams: true, ClientStreams: true},
		},
	}
}

func main() {
	responseBytes := flag.Int("response-bytes", 150, "length of every answer")
	flag.Parse()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(bytesCodec{}))
	server.RegisterService(service(bytes.Repeat([]byte{'\n'}, *responseBytes)), nil)
	stopping := make(chan os.Signal, 1)
	signal.Notify(stopping, syscall.SIGTERM)
	go func() {
		<-stopping
		server.Stop()
	}()
	fmt.Printf("echo is serving at %s\n", listener.Addr())
	if err := server.Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
