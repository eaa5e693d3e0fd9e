# Runs a query that is ended from outside, and prints how asyncpg shows that.
import asyncio, json, os, ssl
import asyncpg

env = os.environ


async def main():
    context = ssl.create_default_context(cafile=env["ROOT"])
    context.load_cert_chain(env["CERT"], env["KEY"])
    context.check_hostname = False  # asyncpg has no hostaddr: it connects to the address, and the chain is verified
    connection = await asyncpg.connect(
        host="127.0.0.1", port=env["PORT"], user="postgres", database="postgres", ssl=context)
    try:
        await connection.fetch(env["SQL"])
    except asyncpg.PostgresError as e:
        for _ in range(1000):  # the end of the stream comes behind the error, to the event loop
            if connection.is_closed():
                break
            await asyncio.sleep(0.01)
        print(json.dumps({"severity": e.severity, "code": e.sqlstate, "message": e.args[0],
                          "detail": e.detail, "hint": e.hint, "closed": connection.is_closed()}))


asyncio.run(main())
