# docker build --tag autoflip-secure .                        the program, without CUDA
# docker run --name demo autoflip-secure                      the demo
# docker run --rm autoflip-secure list                        any other command
# docker build --tag workshop --target development .          what .devcontainer opens
FROM python:3.13-slim AS base
RUN pip install --no-cache-dir uv \
 && useradd --create-home --uid 1000 researcher \
 && install --directory --owner researcher /results
WORKDIR /results

# The project is mounted, and installed by make. git and make for that, Chromium for the tests of pages.
FROM base AS development
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium git make \
 && rm -rf /var/lib/apt/lists/*
ENV INSTALLER="uv pip install --torch-backend=cpu --compile-bytecode" UV_LINK_MODE=copy
USER researcher

FROM base AS program
# What the build writes beside the sources is thrown away.
RUN --mount=type=bind,target=/source,rw \
    uv pip install --system --no-cache --compile-bytecode --torch-backend=cpu /source
USER researcher
ENTRYPOINT ["autoflip-secure"]
CMD ["demo"]
