# syntax=docker/dockerfile:1

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package lmao \
    && cp target/release/lmao /usr/local/bin/lmao

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/lmao --create-home lmao
COPY --from=build /usr/local/bin/lmao /usr/local/bin/lmao
USER 10001:10001
WORKDIR /var/lib/lmao
# Models, and caches of this node; with the embedded stores, everything.
VOLUME /var/lib/lmao
ENV LMAO_DATA=/var/lib/lmao/data \
    LMAO_MODEL_CACHE=/var/lib/lmao/models \
    LMAO_LISTEN=0.0.0.0:8000 \
    LMAO_LOG_FORMAT=json
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 \
    CMD ["lmao", "health", "--server", "http://127.0.0.1:8000"]
ENTRYPOINT ["lmao"]
CMD ["serve"]
