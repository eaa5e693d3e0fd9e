// Connects with the files of each directory of its arguments, DIRECTORY=PORT, and prints a line for each: what a query
// answers, or why there is none.
const { readFileSync } = require('node:fs');
const { Client } = require('pg');

const connect = async (argument) => {
  const [directory, port] = argument.split('=');
  const read = (name) => readFileSync(directory + name);
  const client = new Client({
    host: 'localhost', port: Number(port), user: 'postgres', database: 'postgres',
    ssl: { ca: read('root.crt'), cert: read('postgresql.crt'), key: read('postgresql.key') },
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query("select 'answered' as said")).rows[0].said;
  } catch (e) {
    return String(e);
  } finally {
    await client.end().catch(() => {});
  }
};

(async () => {
  for (const argument of process.argv.slice(2)) console.log(await connect(argument));
})();
