"""`report.html`: what a version can do and how it became so, on one page without outside links or scripts.

- `page`: the whole of it, section by section; `style.css`: its looks.
- `markup`: HTML from Python, where all text is escaped; `wording`: numbers and names as people read them.
- `curves`: charts of the history; `calibration`: the reliability diagram; `classes`: figures per class, confusions.
- `examples`: the most wrong pictures with class activation maps; `pictures`: pixels as data URIs.
- `again`: where it comes from, and the manifest that makes it again.

Labels and file names come from whoever made the pictures: they are never trusted, and everything is bounded.
"""
