"""Answer observations with actions over the network.

examples:
  deft serve runs/pusht/flow/a                      the last checkpoint of a run, on port 8000
  deft serve runs/pusht/flow/a@best --port 0        the best one, on a free port that is printed
  deft serve my_bundle --device cuda:1 --max-batch 16
  deft serve my_bundle --unix /tmp/policy.sock      same machine only, no port
  deft serve my_bundle --language-encoder folder    for sentences that it was not trained with
  deft serve my_bundle --host 0.0.0.0 --token-file token.txt --tls-cert c.pem --tls-key k.pem

Clients: `deft.wire.connect(url)`, `deft eval URL env=...`, or openpi's WebsocketClientPolicy.
On the same port: /livez, /readyz, /contract, /metrics (Prometheus). SIGTERM and Ctrl-C answer
what runs, then stop. TLS or not, other machines get in only when --host says so.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from deft.errors import ConfigError

if TYPE_CHECKING:
    from deft.bundle import Bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("policy", metavar="RUN_OR_BUNDLE", help="run, RUN@last|best|STEP, checkpoint or bundle")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8000, help="TCP port, 0 takes a free one (%(default)s)")
    add("--unix", default="", metavar="PATH", help="listen on a unix socket instead")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    add("--seed", type=int, default=0, help="of the policy's noise (%(default)s)")
    add(
        "--max-batch",
        type=int,
        default=8,
        help="rows per call of the model (%(default)s); 1 gives bit for bit what the policy gives "
        "in process",
    )
    add(
        "--language-encoder",
        default="",
        metavar="FOLDER",
        help="the text encoder that a policy was trained with, for sentences that are new to it "
        "($DEFT_LANGUAGE_ENCODER)",
    )
    add("--token-file", type=Path, metavar="FILE", help="clients must know what stands in it")
    add("--tls-cert", default="", metavar="FILE", help="PEM certificate; clients use wss://")
    add("--tls-key", default="", metavar="FILE", help="PEM key of the certificate")
    add("--insecure", action="store_true", help="allow other machines without TLS")
    add("--ready-file", type=Path, metavar="FILE", help="holds the URL while clients may come")


def run(args: argparse.Namespace) -> int:
    from deft import bundle, serve

    config = serve.ServeConfig(
        host=args.host,
        port=args.port,
        unix=args.unix,
        token=_token(args.token_file),
        insecure=args.insecure,
        tls_certificate=args.tls_cert,
        tls_key=args.tls_key,
        max_batch=args.max_batch,
    )
    opened = bundle.load(
        bundle.resolve(args.policy), device=args.device, language_encoder=args.language_encoder
    )
    print(_summary(opened), flush=True)
    server = serve.Server(
        bundle.actor(opened, args.seed),
        config,
        name=f"{opened.info['family']} {opened.path.name}",
        bundle=opened.digest,
        example=opened.golden.observations[0],
    )

    def ready(url: str) -> None:
        print(f"ready      {url}", flush=True)
        if args.ready_file:
            _write(args.ready_file, url + "\n")

    try:
        server.serve_forever(ready)
    finally:
        if args.ready_file:
            args.ready_file.unlink(missing_ok=True)
    answered = server.metrics.replies["OK"]
    print(f"stopped    {answered} answered, {server.metrics.refusals} refused", flush=True)
    return 0


def _summary(opened: "Bundle") -> str:
    spec, horizons = opened.spec, opened.spec.horizons
    assert horizons is not None  # a bundle's contract has them
    observed = [f"{f.name}: {f.describe()}" for f in spec.features if f.role != "action"]
    action = spec.action()
    rate = f" at {spec.fps:g} Hz" if spec.fps else ""
    lines = [
        ("bundle", str(opened.path)),
        ("digest", opened.digest[:16]),
        ("policy", f"{opened.info['family']} on {opened.device}"),
        ("observes", f"{horizons.obs_horizon} tick(s) of {observed[0]}"),
        *(("", line) for line in observed[1:]),
        ("answers", f"{horizons.pred_horizon} tick(s){rate} of {action.name}: {action.describe()}"),
        ("", f"{horizons.action_horizon} of them are meant to run before asking again"),
        *_heard(opened),
        ("golden", f"{len(opened.golden.keys)} pairs reproduced to {opened.deviation:.1e}"),
    ]
    return "\n".join(f"{name:<10} {text}" for name, text in lines)


def _heard(opened: "Bundle") -> list[tuple[str, str]]:
    known = opened.sentences
    if known is None:
        return []
    new = f"new ones go through {known.encoder}" if known.encode else "new ones are refused"
    return [("language", f"{len(known.texts)} sentence(s), as {known.texts[0]!r}; {new}")]


def _token(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the token cannot be read.\nFound: {error}.") from error
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{path}: a token is one word of printable ASCII.\nFix: openssl rand -hex 32 > {path}"
        )
    return token


def _write(path: Path, text: str) -> None:
    """Beside and renamed, so that a reader never sees half of it."""
    beside = path.with_name(f".writing-{path.name}-{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written.\nFound: {error}.\n"
            "Fix: name a file in a folder that exists."
        ) from error
