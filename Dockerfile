# Builds the program, then an image with it and nothing else.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libssl-dev pkg-config zlib1g-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# dev builds faster and runs slower.
ARG PROFILE=release
ENV CARGO_TARGET_DIR=/src/target CARGO_TERM_COLOR=never
# The dependencies alone, in a layer that lasts until Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p /stub/src \
 && awk '/^\[\[(bench|test)\]\]/ { skip = 1; next } /^\[/ { skip = 0 } !skip' Cargo.toml >/stub/Cargo.toml \
 && cp Cargo.lock /stub/ && echo 'fn main() {}' >/stub/src/main.rs && : >/stub/src/lib.rs \
 && cargo build --profile $PROFILE --locked --manifest-path /stub/Cargo.toml \
 && rm -rf /stub
COPY . .
# The stub was built later than these files were written: without a new time cargo would keep the stub.
RUN touch src/main.rs src/lib.rs \
 && cargo build --profile $PROFILE --locked --bin millstream \
 && cp target/$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE")/millstream /millstream \
 && strip --strip-debug /millstream

FROM debian:12.12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libssl3 zlib1g \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /var/lib/millstream --create-home millstream \
 && mkdir -p /etc/millstream/connectors /etc/millstream/pipelines
COPY --from=build /millstream /usr/local/bin/millstream
USER millstream
# Connectors and pipelines are looked for in the two folders here.
WORKDIR /etc/millstream
ENV MILLSTREAM_DATA=/var/lib/millstream
VOLUME /var/lib/millstream
EXPOSE 8083
ENTRYPOINT ["millstream"]
CMD ["run"]
