#!/bin/sh
# Runs while an image is built: installs the pinned packages of one lock into /opt/lepton and leaves
# nothing behind that a running container does not need. One call is one layer.
#
#   install.sh LOCK
set -eu
lock=$1
home=/opt/lepton

python3 -m venv "$home"
"$home/bin/pip" install --no-cache-dir --no-compile --disable-pip-version-check --progress-bar off \
  --only-binary :all: --require-hashes --requirement "$lock"

site=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Nothing is installed in a running container.
grep -q '^setuptools==' "$lock" || "$home/bin/pip" uninstall --quiet --yes setuptools
"$home/bin/pip" uninstall --quiet --yes pip
rm -f "$home"/bin/activate* "$home"/bin/Activate*

# Headers, static libraries, types and tests: for those who build or test these packages.
rm -rf "$site"/tensorflow/include "$site"/libclang* "$site"/clang
find "$site" -depth -type d \( -name tests -o -name testdata -o -name include \) \
  -not -path '*/tensorflow/*' -exec rm -rf {} +
find "$site" -type f \( -name '*.a' -o -name '*.pyi' -o -name '*.h' -o -name '*.pxd' -o -name '*.pyx' \
  -o -name '*_test.py' \) -delete
# Compilers for accelerators that no node here has, and the backend for browsers.
rm -rf "$site"/ai_edge_litert/tools "$site"/ai_edge_litert/vendors "$site"/ai_edge_litert/libLiteRtWebGpu*.so
"$home/bin/python" "$home/strip.py" "$site"

# The root file system is read-only later, so the byte code is made now. It is never checked against
# its source (which can't change), so the start reads one file a module and nothing else.
"$home/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site"
rm -rf /tmp/* /root/.cache
