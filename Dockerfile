# One image. `liverank` has a role per subcommand: `docker run liverank gateway --help`; beside it lie the operator, which
# Kubernetes starts as `/liverank-operator run`, and `kubectl-liverank`, for whoever copies it out.
# Needs BuildKit (Docker 23 has it on; before that: DOCKER_BUILDKIT=1).
#
# `--build-arg BINARY=prebuilt` takes files of these names from the context instead of compiling them, as many of them as
# are there. They must have been linked against a glibc no newer than Debian 12's.
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
    cargo build --release --locked --package liverank --package liverank-operator \
      --bin liverank --bin liverank-operator --bin kubectl-liverank \
 && mkdir /out \
 && for name in liverank liverank-operator kubectl-liverank; do objcopy --strip-debug target/release/$name /out/$name; done

FROM scratch AS prebuilt
COPY liverank liverank-operato[r] kubectl-liveran[k] /out/

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
COPY --from=binary --chmod=0555 /out/liverank* /out/kubectl-liveran[k] /
# By number: Kubernetes' `runAsNonRoot` cannot tell what a name stands for.
USER 65532:65532
WORKDIR /
STOPSIGNAL SIGTERM
ENTRYPOINT ["/liverank"]
