"""Says what is wrong in the file of a manifest, and where: all faults at once, each with its place.

`source` reads a text into documents with places, `check` finds the faults of a document, and
`report` puts the two together. All functions are pure.
"""
