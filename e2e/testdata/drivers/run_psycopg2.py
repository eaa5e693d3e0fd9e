# Runs a query that is ended from outside, and prints how psycopg2 shows that.
import json, os
import psycopg2

env = os.environ
connection = psycopg2.connect(
    host=env["SERVER_NAME"], hostaddr="127.0.0.1", port=env["PORT"], user="postgres", dbname="postgres",
    sslmode="verify-full", sslrootcert=env["ROOT"], sslcert=env["CERT"], sslkey=env["KEY"])
try:
    connection.cursor().execute(env["SQL"])
except psycopg2.Error as e:
    d = e.diag
    print(json.dumps({"severity": d.severity, "code": d.sqlstate, "message": d.message_primary or str(e),
                      "detail": d.message_detail, "hint": d.message_hint, "closed": connection.closed != 0}))
