# Two images: `--target operator` serves a cluster, `--target runtime` is a base for training images.
# Both base images are arguments, so that a mirror or a house's own image can stand in; BASE needs
# Python 3.11 or later with venv and pip. A tag may name another image tomorrow: give both by digest,
# as name@sha256:..., for images that are given on. `make image` says where that was not done. A house's package index is given as a secret, which no
# layer keeps: `--secret id=pip,src=pip.conf`.
ARG BASE=python:3.12-slim
ARG TORCH=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime

# What builds is locked by hashes as what is shipped is, and stays behind.
FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
COPY locks/build.txt locks/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /tools \
 && python3 -m pip --python /tools/bin/python install --quiet --require-hashes -r locks/build.txt
COPY pyproject.toml README.md LICENSE ./

# Training images get the library alone, which needs nothing but their torch; not the command.
FROM tools AS library
COPY runtime runtime
RUN sed -i -e '/^\[project.scripts\]/,/^$/d' -e '/^dependencies = \[/,/^\]/d' pyproject.toml \
 && /tools/bin/python -m hatchling build -t wheel -d /wheels

FROM tools AS build
COPY locks/operator.txt locks/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/acceleratedjob \
 && python3 -m pip --python /opt/acceleratedjob/bin/python install --quiet --no-compile \
    --require-hashes -r locks/operator.txt
COPY operator operator
# Bytecode that names no file's time is the same in every build. The client's generated modules get
# none: of 1,800 the operator imports three.
RUN /tools/bin/python -m hatchling build -t wheel -d /wheels \
 && python3 -m pip --python /opt/acceleratedjob/bin/python install --quiet --no-compile \
    --no-deps --no-index /wheels/*.whl \
 && PYTHONHASHSEED=0 /opt/acceleratedjob/bin/python -m compileall -qq \
    --invalidation-mode unchecked-hash -x 'kubernetes/(aio/)?client/(api|models)/[^_]' \
    /opt/acceleratedjob/lib

FROM ${BASE} AS operator
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="acceleratedjob-operator" \
      org.opencontainers.image.description="Serves the AcceleratedJobs of a cluster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/acceleratedjob /opt/acceleratedjob
# kopf asks for a user name, which this number has not; USER answers it, for any number.
ENV USER=acceleratedjob PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/acceleratedjob/bin/python", "-m", "acceleratedjob"]
CMD ["operator"]

# The image's own torch stays: nothing is installed but this library. It names no USER: what builds on it
# installs packages as root, and a pod's securityContext says who runs (docs/decisions/0009-images.md).
FROM ${TORCH} AS runtime
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="acceleratedjob-runtime" \
      org.opencontainers.image.description="PyTorch, and the library that trains in the pods of an AcceleratedJob" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN --mount=type=bind,from=library,source=/wheels,target=/tmp/wheels \
    PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1 \
    python3 -m pip install --quiet --no-cache-dir --no-compile --no-deps --no-index /tmp/wheels/*.whl
