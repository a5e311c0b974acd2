# Two images, for CPUs, with the versions that the tests run with; neither runs as root.
#
#   docker build --target base  -t zoo .          answers with exported files: 0.5 GB
#   docker build --target train -t zoo:train .    trains and exports, with the CPU build of torch
#   docker run --rm -v "$PWD:/data:ro" zoo predict model.onnx photos
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD:/data:ro" zoo serve model.onnx --host 0.0.0.0
FROM python:3.13-slim-bookworm AS built
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY recipes recipes
COPY zoo zoo
RUN python -c "import tomllib; print('\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['tool']['uv']['constraint-dependencies']))" > constraints.txt \
    && PIP_CONSTRAINT=constraints.txt pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.13-slim-bookworm AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 ZOO_CACHE=/cache
RUN useradd --create-home --uid 1000 zoo && mkdir /cache /data && chown zoo: /cache /data
COPY --from=built /src/constraints.txt /wheels/ /wheels/
RUN pip install -c /wheels/constraints.txt "$(echo /wheels/*.whl)[serve]"
USER 1000
WORKDIR /data
VOLUME /cache
EXPOSE 8000
ENTRYPOINT ["zoo"]
CMD ["--help"]

FROM base AS train
USER 0
RUN pip install -c /wheels/constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
        "$(echo /wheels/*.whl)[train]"
USER 1000

FROM base
