// Runs a query that is ended from outside, and prints how node-postgres shows that.
const { readFileSync } = require('node:fs');
const { Client } = require('pg');

const { SERVER_NAME, PORT, ROOT, CERT, KEY, SQL } = process.env;
const client = new Client({
  host: '127.0.0.1', port: Number(PORT), user: 'postgres', database: 'postgres',
  ssl: { servername: SERVER_NAME, ca: readFileSync(ROOT), cert: readFileSync(CERT), key: readFileSync(KEY) },
});
const ended = new Promise((resolve) => client.once('end', resolve));
client.on('error', () => {}); // the connection's own, which comes beside the query's

(async () => {
  await client.connect();
  try {
    await client.query(SQL);
  } catch (e) {
    await ended;
    console.log(JSON.stringify({ severity: e.severity, code: e.code, message: e.message, detail: e.detail, hint: e.hint, closed: true }));
  }
})().catch((e) => {
  console.error(e);
  process.exitCode = 1;
});
