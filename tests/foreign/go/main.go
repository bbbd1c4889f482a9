// Command foreign makes the calls that stdin lists over one connection, and prints their outcomes in order.
// It makes those above an empty line before it reads on.
//
// Usage: foreign ADDRESS CONCURRENCY. The README of the folder above has the format of the lines.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var shown = []string{"bandit-reason", "grpc-retry-pushback-ms", "grpc-status-details-bin"}

type raw struct{}

func (raw) Marshal(message any) ([]byte, error) { return message.([]byte), nil }

func (raw) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = append([]byte{}, data...)
	return nil
}

// Name is what other clients have in their content-type, too.
func (raw) Name() string { return "proto" }

type call struct {
	isStream            bool
	path, authorization string
	isCompressed        bool
	timeout             time.Duration
	requests            [][]byte
}

func parse(line string) call {
	fields := strings.Split(line, "\t")
	microseconds, err := strconv.Atoi(fields[4])
	check(err)
	parsed := call{
		isStream:      fields[0] == "stream",
		path:          fields[1],
		authorization: fields[2],
		isCompressed:  fields[3] == "gzip",
		timeout:       time.Duration(microseconds) * time.Microsecond,
	}
	encoded := strings.Split(fields[5], ",")
	for _, text := range encoded[:len(encoded)-1] {
		request, err := base64.StdEncoding.DecodeString(text)
		check(err)
		parsed.requests = append(parsed.requests, request)
	}
	return parsed
}

func (c call) make(channel *grpc.ClientConn) string {
	ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
	defer cancel()
	if c.authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", c.authorization)
	}
	options := []grpc.CallOption{grpc.ForceCodec(raw{})}
	if c.isCompressed {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	if c.isStream {
		return c.stream(ctx, channel, options)
	}
	var response []byte
	var trailer metadata.MD
	err := channel.Invoke(ctx, c.path, c.requests[0], &response, append(options, grpc.Trailer(&trailer))...)
	if err != nil {
		return outcome(err, trailer, nil)
	}
	return outcome(nil, trailer, [][]byte{response})
}

func (c call) stream(ctx context.Context, channel *grpc.ClientConn, options []grpc.CallOption) string {
	description := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := channel.NewStream(ctx, description, c.path, options...)
	if err != nil {
		return outcome(err, nil, nil)
	}
	for _, request := range c.requests {
		if stream.SendMsg(request) != nil {
			break // RecvMsg returns why
		}
	}
	check(stream.CloseSend())
	var responses [][]byte
	for {
		var response []byte
		if err = stream.RecvMsg(&response); err != nil {
			break
		}
		responses = append(responses, response)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return outcome(err, stream.Trailer(), responses)
}

func outcome(err error, trailer metadata.MD, responses [][]byte) string {
	encode := base64.StdEncoding.EncodeToString
	ended := status.Convert(err)
	var trailers, answers []string
	for _, name := range shown {
		for _, value := range trailer.Get(name) {
			trailers = append(trailers, name+"="+encode([]byte(value)))
		}
	}
	for _, response := range responses {
		answers = append(answers, encode(response)+",")
	}
	return fmt.Sprintf("%d\t%s\t%s\t%s", ended.Code(), encode([]byte(ended.Message())),
		strings.Join(trailers, ","), strings.Join(answers, ""))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func makeAll(channel *grpc.ClientConn, calls []call, concurrency int) []string {
	outcomes := make([]string, len(calls))
	next := make(chan int)
	var callers sync.WaitGroup
	for range concurrency {
		callers.Go(func() {
			for index := range next {
				outcomes[index] = calls[index].make(channel)
			}
		})
	}
	for index := range calls {
		next <- index
	}
	close(next)
	callers.Wait()
	return outcomes
}

func main() {
	concurrency, err := strconv.Atoi(os.Args[2])
	check(err)
	channel, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err)
	defer channel.Close()
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<24)
	out := bufio.NewWriter(os.Stdout)
	var calls []call
	for lines.Scan() {
		if lines.Text() != "" {
			calls = append(calls, parse(lines.Text()))
			continue
		}
		for _, line := range makeAll(channel, calls, concurrency) {
			fmt.Fprintln(out, line)
		}
		check(out.Flush())
		calls = nil
	}
	check(lines.Err())
}
