"""What earlier turns found out about rows and the next one need not find out again: near-duplicates.

Kept in the lake, without any text: row ids, 64-bit digests, band keys, and which rows are similar. All of it can be
made again from the rows, so it may be deleted at any time.
"""
