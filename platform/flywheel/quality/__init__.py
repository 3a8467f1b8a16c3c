"""From consented interactions to a training set, in steps a turn can call and persist one by one.

``build`` joins inferences and feedback to candidates, ``reward`` learns which answers fit which
prompts, ``score`` writes the signals, ``filters`` and ``curate`` decide row by row and keep every
reason. Modules are imported where they are used: this package itself imports nothing heavy.
"""
