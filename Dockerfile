# syntax=docker/dockerfile:1
# The image has two files: the static binaries of proxy and control plane. No shell, no package manager, no C library.

# The toolchain of go.mod, exactly: this image sets GOTOOLCHAIN=local. scripts/check_go_test.go holds the two together.
FROM --platform=$BUILDPLATFORM golang:1.26.11 AS build
WORKDIR /src
# The modules first: they change less often than the code, and stay in the cache of the builder.
COPY go.mod go.sum ./
RUN go mod download && go mod verify
COPY cmd cmd
COPY internal internal
ARG VERSION=unknown
ARG TARGETOS
ARG TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o / ./cmd/pgmtls-proxy ./cmd/pgmtls

# No ca-certificates: the proxy never trusts public CAs. Clients are judged by the policy's client_ca, the database by
# the configuration's ca, and both are files that the operator gives. Of the control plane only notifications may need
# some: mount a bundle and name it in SSL_CERT_FILE. No time zone data: it logs in UTC.
FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="pgmtls-proxy" \
      org.opencontainers.image.description="A gate for PostgreSQL: mutual TLS and an IP allowlist" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /pgmtls-proxy /pgmtls /
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532
# The admin address is not exposed: by default it is on loopback, inside the container.
EXPOSE 5432
# The binary asks its own /livez. An orchestrator that has probes of its own uses those. For the control plane run the
# image with --entrypoint /pgmtls and --no-healthcheck.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/pgmtls-proxy", "health", "--config", "/etc/pgmtls-proxy/proxy.yaml"]
ENTRYPOINT ["/pgmtls-proxy"]
CMD ["--config", "/etc/pgmtls-proxy/proxy.yaml"]
