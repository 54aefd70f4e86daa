# Two images: `--target operator` serves a cluster, `--target runtime` is a base for training images.
# Both base images are arguments, so that a mirror or a house's own image can stand in.
ARG BASE=python:3.12-slim
ARG TORCH=pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime

FROM ${BASE} AS build
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY operator operator
COPY runtime runtime
RUN python3 -m venv /opt/acceleratedjob \
 && /opt/acceleratedjob/bin/python -m pip install --no-cache-dir --constraint constraints.txt '.[operator]'

FROM ${BASE} AS operator
COPY --from=build /opt/acceleratedjob /opt/acceleratedjob
# kopf asks for a user name, which this number has not; USER answers it, for any number.
ENV USER=acceleratedjob
USER 65532:65532
ENTRYPOINT ["/opt/acceleratedjob/bin/python", "-m", "acceleratedjob"]
CMD ["operator"]

# The image's own torch stays: nothing is installed but this library.
FROM ${TORCH} AS runtime
COPY pyproject.toml README.md LICENSE /source/
COPY operator /source/operator
COPY runtime /source/runtime
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --no-deps /source \
 && rm -rf /source
