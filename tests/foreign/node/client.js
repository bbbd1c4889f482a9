// Make the calls that stdin lists over one connection, and print their outcomes in order.
// Those above an empty line are made before more is read.
//
// Usage: node client.js ADDRESS CONCURRENCY. The README of the folder above has the format of the lines.
'use strict';

const readline = require('readline');
const grpc = require('@grpc/grpc-js');

const SHOWN = ['bandit-reason', 'grpc-retry-pushback-ms', 'grpc-status-details-bin'];
const [address, concurrency] = process.argv.slice(2);
const same = (bytes) => bytes;
const encode = (value) => Buffer.from(value).toString('base64');
const open = (options) => new grpc.Client(address, grpc.credentials.createInsecure(), options);
// grpc-js compresses all requests of a channel or none.
const clients = {
  identity: open({}),
  gzip: open({ 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip }),
};

function outcome(status, responses) {
  const trailers = SHOWN.flatMap((name) => status.metadata.get(name).map((value) => `${name}=${encode(value)}`));
  return [status.code, encode(status.details), trailers.join(','), responses.map((response) => `${encode(response)},`).join('')].join('\t');
}

function make(line) {
  const [kind, path, authorization, compression, microseconds, encoded] = line.split('\t');
  const requests = encoded.split(',').slice(0, -1).map((request) => Buffer.from(request, 'base64'));
  const metadata = new grpc.Metadata();
  if (authorization !== '') metadata.set('authorization', authorization);
  const options = { deadline: Date.now() + Number(microseconds) / 1000 };
  const client = clients[compression];
  const responses = [];
  return new Promise((resolve) => {
    const end = (status) => resolve(outcome(status, responses));
    if (kind === 'stream') {
      const call = client.makeBidiStreamRequest(path, same, same, metadata, options);
      const hasEnded = new Promise((noteEnd) => call.on('end', noteEnd));
      call.on('data', (response) => responses.push(response));
      call.on('error', () => {}); // its status follows
      call.on('status', (status) => hasEnded.then(() => end(status)));
      requests.forEach((request) => call.write(request));
      call.end();
    } else {
      const call = client.makeUnaryRequest(path, same, same, requests[0], metadata, options, (error, response) => {
        if (!error) responses.push(response);
      });
      call.on('status', end);
    }
  });
}

async function makeAll(lines) {
  const outcomes = new Array(lines.length);
  let next = 0;
  const caller = async () => {
    while (next < lines.length) {
      const index = next++;
      outcomes[index] = await make(lines[index]);
    }
  };
  await Promise.all(Array.from({ length: Number(concurrency) }, caller));
  return outcomes;
}

async function main() {
  let lines = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (line !== '') {
      lines.push(line);
    } else {
      const outcomes = await makeAll(lines);
      process.stdout.write(outcomes.map((text) => `${text}\n`).join(''));
      lines = [];
    }
  }
  Object.values(clients).forEach((client) => client.close());
}

main();
