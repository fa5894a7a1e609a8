"""The page of ``allpet ui``: regions drawn on an image, their attention on the sinogram, and what tasks make of it.

`server` speaks HTTP, `guard` keeps strangers out, `library` holds the scans, `work` is one session's regions and
`edits` what can be done to them, `jobs` runs tasks, `keep` writes and reopens work folders.
"""
