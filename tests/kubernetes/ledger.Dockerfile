# A user of the cluster, for the tests on Kubernetes:
# docker build -t redis-sidecar-ledger:0.1.0 -f tests/kubernetes/ledger.Dockerfile .

FROM rust:1-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --package testbed --bin ledger --target "$(uname -m)-unknown-linux-gnu" \
        --config "target.'cfg(all(target_os = \"linux\", target_env = \"gnu\"))'.rustflags = [\"-Ctarget-feature=+crt-static\"]" \
    && cp target/*/release/ledger /ledger

FROM scratch
COPY --from=build /ledger /ledger
USER 65532:65532
ENTRYPOINT ["/ledger"]
