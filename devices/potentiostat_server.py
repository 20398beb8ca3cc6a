"""Serve one potentiostat: ``python -m devices.potentiostat_server --prefix P: gamry``.

Runs on the computer beside the instrument. EPICS_CAS_INTF_ADDR_LIST says on which
interface it listens; loopback when it says nothing.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

# Monitors are sent at least this often under load: a guard waits for them.
os.environ.setdefault("CAPROTO_SERVER_HIGH_LOAD_TIMEOUT_SEC", "0.002")

from .gamry_driver import GamryDriver
from .potentiostat_driver import PotentiostatDriver
from .potentiostat_ioc import PotentiostatIOC
from .prompt_context import PromptContext

LOOPBACK = "127.0.0.1"


async def serve(driver: PotentiostatDriver, prefix: str) -> None:
    """Serve `driver` under `prefix` until SIGTERM or SIGINT; leave the relay open."""
    ioc = PotentiostatIOC(prefix, driver=driver)
    interfaces = os.environ.get("EPICS_CAS_INTF_ADDR_LIST", LOOPBACK).split()
    server = asyncio.create_task(PromptContext(ioc.pvdb, interfaces).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.cancel)
    try:
        await server
    except asyncio.CancelledError:
        pass
    finally:
        driver.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the instrument named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m devices.potentiostat_server")
    parser.add_argument("--prefix", required=True, help="of the PVs, colon included")
    parser.add_argument("--section", help="which one, if several are connected")
    parser.add_argument("instrument", choices=["gamry"])
    arguments = parser.parse_args(argv)
    try:
        driver = GamryDriver.connect(arguments.section)
    except (RuntimeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    asyncio.run(serve(driver, arguments.prefix))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
