"""The course: how the lab's notebooks start, check answers, and are built, executed and exported.

One text source a notebook (``notebooks/src``) is the only thing people edit; ``README.md`` in this
folder says how to write one. Nothing is imported here, so ``labcore.start`` stays cheap.
"""
