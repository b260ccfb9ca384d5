// Adds and works off jobs with an empty handler: node run.js <redis url> <jobs> <batch> <concurrency> <jobs one by one>.
//
// Prints one line of JSON: jobs a second, added in batches, added one by one, and worked off. What is worked off is removed,
// as Mosaic's tasks are.
import { performance } from 'node:perf_hooks';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';

const [url, jobs, batch, concurrency, singles] = process.argv.slice(2).map((text, place) => (place ? Number(text) : text));
const connect = () => new Redis(url, { maxRetriesPerRequest: null });
const perSecond = (count, since) => (count * 1000) / (performance.now() - since);
const queue = new Queue(`bench-${process.pid}`, { connection: connect() });
const opts = { removeOnComplete: true, removeOnFail: true };

let since = performance.now();
for (let first = 0; first < jobs; first += batch) {
  const length = Math.min(batch, jobs - first);
  await queue.addBulk(Array.from({ length }, (_, place) => ({ name: 'nothing', data: { number: first + place }, opts })));
}
const inBatches = perSecond(jobs, since);

since = performance.now();
for (let number = 0; number < singles; number += 1) await queue.add('nothing', { number }, opts);
const oneByOne = perSecond(singles, since);

since = performance.now();
let left = jobs + singles;
const worker = new Worker(queue.name, async () => {}, { connection: connect(), concurrency });
await new Promise((resolve, reject) => {
  worker.on('completed', () => { left -= 1; if (left === 0) resolve(); });
  worker.on('failed', (_, error) => reject(error));
});
const worked = perSecond(jobs + singles, since);
await worker.close();
await queue.obliterate({ force: true });
console.log(JSON.stringify({ inBatches, oneByOne, worked }));
process.exit(0);
