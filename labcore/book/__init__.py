"""The chapters of the book: their data, small experiments and centre-pieces.

"Alice's Adventures in a differentiable wonderland", Simone Scardapane, arXiv 2404.17625. The
methods themselves are in :mod:`labcore.blocks`. A chapter is a module ``b04`` (its experiment)
beside ``figures_b04`` (its centre-piece); :mod:`.experiment` runs all chapters that are there.
"""
