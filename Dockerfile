# docker build -t redis-sidecar:0.1.0 .
#
# No BuildKit feature is needed. With BuildKit, `--platform linux/amd64,linux/arm64` builds both;
# the build stage then runs on the target's platform.

FROM rust:1-slim-bookworm AS build
ARG TARGETARCH
WORKDIR /build
COPY . .
RUN set -eu; \
    case "${TARGETARCH:-$(uname -m)}" in \
        amd64 | x86_64) target=x86_64-unknown-linux-gnu ;; \
        arm64 | aarch64) target=aarch64-unknown-linux-gnu ;; \
        *) echo "no build for ${TARGETARCH:-$(uname -m)}: amd64 and arm64 only" >&2; exit 1 ;; \
    esac; \
    cargo static --locked --target "$target"; \
    cp "target/$target/release/redis-sidecar" /redis-sidecar; \
    /redis-sidecar --help >/dev/null

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="redis-sidecar" \
      org.opencontainers.image.description="Assembles, heals and reports on a Redis Cluster from inside every pod of a StatefulSet" \
      org.opencontainers.image.source="https://github.com/redis-sidecar/redis-sidecar" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /redis-sidecar /redis-sidecar
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/redis-sidecar"]
