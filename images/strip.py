"""Cuts symbol tables off shared libraries: strip.py FOLDER. Runs while an image is built.

What the loader maps is described by the program headers; section headers and what lies behind the last
mapped byte (.symtab, .strtab, .debug_*) serve linkers and debuggers. `strip` of binutils would do the
same, but is in neither base image. libtensorflow_cc.so alone loses 130 MB.
"""

import struct
import sys
from pathlib import Path

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
LITTLE_ENDIAN_64 = b"\x7fELF\x02\x01"
WORTH_IT = 1_000_000


def cut(library: Path) -> int:
    """Returns the number of bytes cut off; 0 for what isn't a 64-bit little-endian ELF file."""
    with library.open("r+b") as file:
        head = file.read(HEADER.size)
        if not head.startswith(LITTLE_ENDIAN_64):
            return 0
        fields = list(HEADER.unpack(head))
        offset, entry_size, count = fields[5], fields[9], fields[10]
        end: int = offset + entry_size * count
        for index in range(count):
            file.seek(offset + index * entry_size)
            segment = SEGMENT.unpack(file.read(SEGMENT.size))
            end = max(end, int(segment[2] + segment[5]))  # p_offset + p_filesz
        size = file.seek(0, 2)
        if end >= size:
            return 0
        fields[6] = fields[11] = fields[12] = fields[13] = 0  # e_shoff, e_shentsize, e_shnum, e_shstrndx
        file.seek(0)
        file.write(HEADER.pack(*fields))
        file.truncate(end)
        return size - end


def main(folder: Path) -> None:
    libraries = [path for path in folder.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    total = sum(cut(path) for path in libraries if path.stat().st_size >= WORTH_IT)
    print(f"Cut {total / 1e6:.0f} MB of symbols off shared libraries")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
