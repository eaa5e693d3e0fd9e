"""Connects by each URL of its arguments with the driver of the first one, and prints a line for each: what a query
answers, or why there is none. Names are of this machine."""
import asyncio
import importlib
import socket
import sys

driver = importlib.import_module(sys.argv[1])
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda host, *rest, **named: resolve("127.0.0.1", *rest, **named)


async def ask_asyncpg(url):
    connection = await driver.connect(url)
    try:
        return await connection.fetchval("select 'answered'")
    finally:
        await connection.close()


def ask(url):
    if sys.argv[1] == "asyncpg":
        return asyncio.run(ask_asyncpg(url))
    connection = driver.connect(url + "&hostaddr=127.0.0.1")  # libpq resolves names by itself
    try:
        cursor = connection.cursor()
        cursor.execute("select 'answered'")
        return cursor.fetchone()[0]
    finally:
        connection.close()


for url in sys.argv[2:]:
    try:
        print(ask(url))
    except Exception as e:
        print(" ".join(f"{type(e).__name__}: {e} {getattr(e, 'detail', None) or ''}".split()))
