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
        notices.append((deadline, why))
        noticed.set()
    def send(after=0.0):
        threading.Timer(after, os.kill, (os.getpid(), signal.SIGTERM)).start()
"""
CASES = {
    "the signal becomes a notice with the time that is left": """
        signals = Signals(notice, 30.0)
        began = time.monotonic()
        send()
        assert noticed.wait(60)
        [(deadline, why)] = notices
        assert began <= deadline - 30.0 <= time.monotonic() and why == "SIGTERM"
    """,
    "another signal is no notice": """
        got = threading.Event()
        signal.signal(signal.SIGUSR1, lambda number, frame: got.set())
        signals = Signals(notice, 30.0)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert got.wait(60) and not noticed.wait(0.5)
    """,
    "it is noticed while the main thread is in C code": """
        signals = Signals(notice, 30.0)
        send(0.2)
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=lambda: (noticed.wait(60), lock.release())).start()
        lock.acquire()  # ends only when the notice was given: a handler would never run here
        assert notices
    """,
    "a forked child ends by the signal, and its parent is not told": """
        signals = Signals(notice, 30.0)
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(1)
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not noticed.wait(0.5)
    """,
    "the same for one that gets it before it has run any code": """
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
        signals = Signals(notice, 30.0)
        if not (child := os.fork()):
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        assert not noticed.wait(0.5)
        send()
        assert noticed.wait(60)  # the parent blocks nothing any more
    """,
    "the handler of the script is called when the training has stopped, not before": """
        called = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
        signals = Signals(notice, 30.0)
        send()
        assert noticed.wait(60) and not called
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
            await asyncio.wait_for(got.wait(), 60)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.to_thread(noticed.wait, 60)
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
        assert noticed.wait(60) and not called
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
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
