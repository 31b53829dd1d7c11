# The service with ONNX Runtime, without torch. The model is mounted, not built in:
#
#   sentiment export outputs/e2e --int8
#   docker build -t sentiment .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/outputs/e2e/model:/model:ro" sentiment
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 sentiment
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Before the code, so that a change of the code does not reinstall the dependencies. Groups need pip 25.1.
RUN pip install --upgrade "pip>=25.1" && pip install --constraint constraints.txt --group serving
COPY train_*.py ./
COPY sentiment sentiment
RUN pip install --no-deps .

USER sentiment
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["sentiment", "serve"]
CMD ["/model", "--backend", "onnx", "--host", "0.0.0.0"]
