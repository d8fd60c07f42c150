"""A page of runs: one HTML file with curves, a table of runs, media and console output, which needs no network.

`payload` makes the data of the page, `contents` chooses the media to embed, `packing` makes curves small, `html` writes
the file, and `notebook` shows it below a cell. The scripts and styles in ``assets/`` are put into the file as they are;
uPlot 1.6.32, which draws the curves, has the MIT licence in ``assets/uPlot-LICENSE``.
"""
