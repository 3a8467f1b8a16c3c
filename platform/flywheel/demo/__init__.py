"""The simulated product of ``flywheel demo``: support triage, its users, its reviewer, its base model.

A customer's message goes in, ``{"intent", "product", "urgency"}`` as compact JSON comes out. The live
model was trained before three intents and two products existed; the users' corrections carry what it
lacks. Nothing here is imported by the platform below: the demo talks to it as any product would.

- ``product``: vocabulary, message generator, evaluation cases. Training and evaluation share no template.
- ``fillers``: names, addresses and numbers of people who do not exist.
- ``users``: who they are, what they consent to and how they react to an answer.
- ``reviewer``: the person who labels, with a small error of their own.
- ``base_model``: makes the ``tiny`` model, random weights first, then old intents and products only.
"""
