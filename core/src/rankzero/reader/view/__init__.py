"""`rankzero view`: the page of `rankzero.reader.page`, live, for this machine's user only.

`live` reads runs and what is new of them, and `server` answers the browser.
"""
