// Connects as an application does by the URL of a public name, and prints what the database answers. The name leads to this
// machine, as the DNS would have it.
const dns = require("dns");
const lookup = dns.lookup;
dns.lookup = (name, options, done) => lookup(name === process.env.HOST ? "127.0.0.1" : name, options, done);
const { Client } = require("pg");

let url = `postgres://postgres@${process.env.HOST}:${process.env.PORT}/postgres?sslmode=verify-full&sslrootcert=${process.env.ROOTS}`;
if (process.env.CERT) url += `&sslcert=${process.env.CERT}&sslkey=${process.env.KEY}`;
const client = new Client({ connectionString: url });
client
  .connect()
  .then(() => client.query("select 'answered' as said"))
  .then((result) => console.log(result.rows[0].said))
  .then(() => client.end())
  .catch((error) => {
    console.error(error);
    process.exit(1);
  });
