"""The rollout's state machine: shadow, canary in steps, live, or back.

``state`` reads where candidates stand, ``rules.due_steps`` says what follows (pure), ``take`` carries it out as one
routing object, ``controller`` does so every second. ``tally``, ``onset`` and ``compare`` are the operational guards.
"""
