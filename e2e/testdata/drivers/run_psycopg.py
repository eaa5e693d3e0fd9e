# Runs a query that is ended from outside, and prints how psycopg 3 shows that.
import json, os
import psycopg

env = os.environ
connection = psycopg.connect(
    host=env["SERVER_NAME"], hostaddr="127.0.0.1", port=env["PORT"], user="postgres", dbname="postgres",
    sslmode="verify-full", sslrootcert=env["ROOT"], sslcert=env["CERT"], sslkey=env["KEY"])
try:
    connection.execute(env["SQL"])
except psycopg.Error as e:
    d = e.diag
    print(json.dumps({"severity": d.severity, "code": d.sqlstate, "message": d.message_primary or str(e),
                      "detail": d.message_detail, "hint": d.message_hint, "closed": connection.closed}))
