#!/bin/sh
# quickstart.sh: gets python:slim and runs Python in a box with it.
set -eu
image=python:slim

echo "quickstart: pulling $image"
if timeout "${BOXLITE_WAIT:-60}" bin/boxlite pull "$image"; then
	:
else
	echo "quickstart: the public registry cannot be reached from here (or gave no answer in ${BOXLITE_WAIT:-60} s);"
	echo "quickstart: using a stand-in for $image, made of Debian packages"
	make --no-print-directory images
	bin/boxlite load -i build/images/python-slim.tar
fi

echo "quickstart: boxlite run $image python -c ..."
bin/boxlite run --rm "$image" python -c \
	'import os, platform; print("hello from Python", platform.python_version(), "in a box: kernel", os.uname().release, "pid", os.getpid())'
