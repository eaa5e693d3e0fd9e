# syntax=docker/dockerfile:1
# The image has one file: the static binary. No shell, no package manager, no C library.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
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
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /pgmtls-proxy ./cmd/pgmtls-proxy

# No ca-certificates: the proxy never trusts public CAs. Clients are judged by the policy's client_ca, the database by
# the configuration's ca, and both are files that the operator gives. No time zone data: it logs in UTC.
FROM scratch
ARG VERSION=unknown
LABEL org.opencontainers.image.title="pgmtls-proxy" \
      org.opencontainers.image.description="A gate for PostgreSQL: mutual TLS and an IP allowlist" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /pgmtls-proxy /pgmtls-proxy
# By number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532
# The admin address is not exposed: by default it is on loopback, inside the container.
EXPOSE 5432
# The binary asks its own /livez. An orchestrator that has probes of its own uses those.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/pgmtls-proxy", "health", "--config", "/etc/pgmtls-proxy/proxy.yaml"]
ENTRYPOINT ["/pgmtls-proxy"]
CMD ["--config", "/etc/pgmtls-proxy/proxy.yaml"]
