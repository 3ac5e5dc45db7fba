#!/bin/sh
# quickstart.sh: gets python:slim and runs Python in a box with it.
set -eu
image=python:slim

echo "quickstart: pulling $image"
if ! bin/boxlite pull "$image"; then
	echo "quickstart: no $image from a registry, see above; using a stand-in made of Debian packages"
	go run ./internal/mkimage -o build/images python-slim
	bin/boxlite load -i build/images/python-slim.tar
fi

echo "quickstart: boxlite run $image python -c ..."
bin/boxlite run "$image" python -c \
	'import os, platform; print("hello from Python", platform.python_version(), "in a box: kernel", os.uname().release + ", process", os.getpid())'
