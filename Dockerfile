# Two images: `--target operator` is the operator, `--target runtime` is the base of training images.
# Both base images are build arguments, so that you can use a mirror or your own images. BASE needs
# Python 3.11 or later with venv and pip. A tag may refer to another image later: for a release, pass
# digests (name@sha256:...); `make image` warns about tags. Pass a private package index as a secret,
# which is not kept in any layer: `--secret id=pip,src=pip.conf`.
ARG BASE=python:3.12-slim
ARG TORCH=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime

# The build tools are locked by hashes, too. They are not part of the images.
FROM ${BASE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /source
COPY locks/build.txt locks/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /tools \
 && python3 -m pip --python /tools/bin/python install --quiet --require-hashes -r locks/build.txt
COPY pyproject.toml README.md LICENSE ./

# Training images get the library only, which needs nothing except their torch, and no command.
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
# Bytecode without file times is the same in every build. The generated modules of the Kubernetes
# client are not compiled: the operator imports three of 1,800.
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
      org.opencontainers.image.description="The AcceleratedJob operator" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/acceleratedjob /opt/acceleratedjob
# kopf needs a user name, and this user ID has none; USER provides one for any user ID.
ENV USER=acceleratedjob PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/acceleratedjob/bin/python", "-m", "acceleratedjob"]
CMD ["operator"]

# Only this library is installed; torch of the base image is kept. There is no USER: images built on
# this one install packages as root, and the securityContext of the pod selects the user
# (docs/decisions/0009-images.md).
FROM ${TORCH} AS runtime
ARG VERSION=
ARG REVISION=
ARG SOURCE=
LABEL org.opencontainers.image.title="acceleratedjob-runtime" \
      org.opencontainers.image.description="PyTorch and the training library of AcceleratedJob" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN --mount=type=bind,from=library,source=/wheels,target=/tmp/wheels \
    PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1 \
    python3 -m pip install --quiet --no-cache-dir --no-compile --no-deps --no-index /tmp/wheels/*.whl
