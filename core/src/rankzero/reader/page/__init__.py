"""A page of runs: one HTML file with curves, a table of runs, media and console output, which needs no network.

`payload` makes the data of the page, `packing` makes them small, `media` chooses the files to embed, `html` writes the
file, and `build` reads runs for it. The scripts and styles in ``assets/`` are put into the file as they are; uPlot
1.6.32, which draws the curves, has the MIT licence in ``assets/uPlot-LICENSE``.
"""
