"""SIGTERM is noticed at once, is not passed to forked children, and leaves other handlers alone."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
    import asyncio, os, signal, sys, threading, time
    from runtime.loop.signals import Signals
    noticed = threading.Event()
    notices = []
    def notice(deadline, why):
        notices.append((deadline - time.monotonic(), why))
        noticed.set()
    def send(after=0.0):
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM)).start()
"""
CASES = {
    "the signal becomes a notice with the time that is left": """
        signals = Signals(notice, 30.0)
        send()
        assert noticed.wait(10)
        [(left, why)] = notices
        assert 25 < left <= 30 and why == "SIGTERM"
    """,
    "another signal is no notice": """
        got = threading.Event()
        signal.signal(signal.SIGUSR1, lambda number, frame: got.set())
        signals = Signals(notice, 30.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert got.wait(10) and not noticed.wait(0.5)
    """,
    "it is noticed while the main thread is in C code": """
        signals = Signals(notice, 30.0)
        send(0.2)
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=lambda: (noticed.wait(10), lock.release())).start()
        lock.acquire()  # ends only when the notice was given: a handler would never run here
        assert notices
    """,
    "a forked child ends by the signal, and its parent is not told": """
        signals = Signals(notice, 30.0)
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(1)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not noticed.wait(0.5)
    """,
    "the handler of the script is called when the training has stopped, not before": """
        called = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
        signals = Signals(notice, 30.0)
        send()
        assert noticed.wait(10) and not called
        signals.call_handler_before()
        assert called == [signal.SIGTERM]
    """,
    "it is taken again from asyncio, which goes on to get its own signals": """
        async def main():
            loop = asyncio.get_running_loop()
            got = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR1, got.set)
            signals = Signals(notice, 30.0)
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.wait_for(got.wait(), 10)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.to_thread(noticed.wait, 10)
            signals.close()
        asyncio.run(main())
        assert notices
    """,
    "it is taken again if the script has replaced the handler": """
        signals = Signals(notice, 30.0)
        called = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
        signal.set_wakeup_fd(-1)
        signals.check()
        send()
        assert noticed.wait(10) and not called
        signals.call_handler_before()
        assert called
    """,
    "closing it restores the handler and the file descriptor": """
        handler = lambda number, frame: None
        signal.signal(signal.SIGTERM, handler)
        signals = Signals(notice, 30.0)
        signals.close()
        assert signal.getsignal(signal.SIGTERM) is handler
        assert signal.set_wakeup_fd(-1) == -1
    """,
}


@pytest.mark.parametrize("code", CASES.values(), ids=CASES.keys())
def test_signals(code: str) -> None:
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(code)
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
