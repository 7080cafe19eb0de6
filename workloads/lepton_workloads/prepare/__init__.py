"""Raw pictures -> `datasets/<key>`: planned and finished by index 0, decoded by all indexes.

Index 0 writes the plan (which file, which class, which split) into `datasets/.tmp-<job key>`, each index
writes the part of its share there, index 0 joins the parts in the plan's order and renames the result. The
bytes don't depend on the number of indexes. Modules: `sources`, `plan`, `parts`, `finish`, `peers`, `run`.
"""
