# One image, one binary, a role per subcommand: `docker run liverank gateway --help`.
# Needs BuildKit (Docker 23 has it on; before that: DOCKER_BUILDKIT=1).
#
# `--build-arg BINARY=prebuilt` takes a file `liverank` from the context instead of compiling one. It must have been
# linked against a glibc no newer than Debian 12's.
ARG BINARY=compiled

FROM rust:1.95-slim-bookworm AS compiled
# The C and C++ compilers, make and Perl are for librdkafka and OpenSSL, which are linked statically.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends g++ make perl \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target folder is a cache, so it is no part of the image: what is wanted of it must be copied out in the same step.
# Line tables are of no use where no source is; symbols stay, for backtraces.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package liverank --bin liverank \
 && objcopy --strip-debug target/release/liverank /liverank

FROM scratch AS prebuilt
COPY liverank /liverank

FROM ${BINARY} AS binary

# glibc, libgcc, CA certificates, a user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot AS runtime
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="liverank" \
      org.opencontainers.image.description="Ranks videos by what viewers do and carries their live comments" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binary --chmod=0555 /liverank /liverank
# By number: Kubernetes' `runAsNonRoot` cannot tell what a name stands for.
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/liverank"]
