"""What holds for all tests."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a background job and on many CI runners. Whatever the tests start would inherit it and could not be
    # interrupted either.
    signal.signal(signal.SIGINT, signal.default_int_handler)
