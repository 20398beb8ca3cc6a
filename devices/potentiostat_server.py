"""Serve one potentiostat over Channel Access.

Runs on the computer beside the instrument. EPICS_CAS_INTF_ADDR_LIST says on which
interface it listens; loopback when it says nothing.
"""

import asyncio
import os
import signal

from caproto.asyncio.server import Context

from .potentiostat_driver import PotentiostatDriver
from .potentiostat_ioc import PotentiostatIOC

LOOPBACK = "127.0.0.1"


async def serve(driver: PotentiostatDriver, prefix: str) -> None:
    """Serve `driver` under `prefix` until SIGTERM or SIGINT; leave the relay open."""
    ioc = PotentiostatIOC(prefix, driver=driver)
    interfaces = os.environ.get("EPICS_CAS_INTF_ADDR_LIST", LOOPBACK).split()
    server = asyncio.create_task(Context(ioc.pvdb, interfaces).run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.cancel)
    try:
        await server
    except asyncio.CancelledError:
        pass
    finally:
        driver.close()
