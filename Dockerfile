# docker build -t moesim . && docker run --rm -v "$PWD:/data" moesim demo
FROM python:3.12-slim
WORKDIR /src
COPY requirements/runtime.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && rm -rf /src/*
# What is compiled on the first run, and figures' fonts, are kept here: any user may write it.
ENV NUMBA_CACHE_DIR=/var/cache/moesim XDG_CACHE_HOME=/var/cache/moesim MPLCONFIGDIR=/var/cache/moesim
RUN useradd --create-home moesim && mkdir -m 1777 /var/cache/moesim
USER moesim
WORKDIR /data
ENTRYPOINT ["moesim"]
CMD ["--help"]
