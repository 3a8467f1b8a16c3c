"""Whose feedback counts: suspect rows of the table ``feedback`` are quarantined, each with a reason.

``statements`` turns feedback into votes about answers, ``agreement`` estimates how reliable each rater is and what
the others say about each vote, ``sybils`` finds accounts that are one actor, ``bursts`` and ``caps`` count, and
``quarantine`` puts them together. ``apply`` is what building candidates calls. All of it is numpy on flat arrays.
"""
