"""``0xgenctl plugin``: make keys, sign, approve, verify, list and run plugins."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import IntegrityError, ManifestError, OxgenError
from .options import FileName, Named, ReplacedFile, trust_root_option
from .plugin_run import plugin_run, resolve
from .program import NO, Group
from .terminal import print_table, visible
from .trust import locate

if TYPE_CHECKING:
    from ..integrity import TrustRoot

__all__ = ["plugin"]

#: PLUGIN or FILE; an empty one would be the current directory.
_TARGET = Named("a path, or the name of a plugin of the trust root")

_GROUP_EXAMPLES = """\
\b
From a key to a run, for the plugin in plugins/hydra:
  0xgenctl plugin keygen release.key plugins/keys/release.pub
  0xgenctl plugin sign --key release.key plugins/hydra
  0xgenctl plugin approve --trust-root plugins plugins/hydra
  0xgenctl plugin verify --trust-root plugins hydra
  0xgenctl plugin run --trust-root plugins hydra
"""


@click.group(
    "plugin",
    cls=Group,
    epilog=_GROUP_EXAMPLES,
    short_help="Sign, approve, verify, run plugins.",
)
def plugin() -> None:
    """Sign, approve, verify and run plugins.

    The trust root holds ALLOWLIST and keys/. It is --trust-root, else /etc/oxgen, else ./plugins,
    and nobody but root and you may be able to write it.
    """


plugin.add_command(plugin_run)


_KEYGEN_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin keygen release.key
  0xgenctl plugin keygen ~/secret/release.key plugins/keys/release.pub

\b
Keep the private key away from the machines that run plugins; put the public
one, named *.pub, into keys/ of their trust root.
"""


@plugin.command("keygen", epilog=_KEYGEN_EXAMPLES, short_help="Make a key pair for signing.")
@click.argument("private", type=FileName(), metavar="PRIVATE")
@click.argument("public", type=FileName(), required=False, metavar="[PUBLIC]")
def keygen(private: str, public: str | None) -> None:
    """Make an ECDSA P-256 key pair: PRIVATE (mode 0600) and PUBLIC (default: PRIVATE as *.pub).

    An existing file is never overwritten.
    """
    from ..integrity import keygen as make_keys

    stem, suffix = os.path.splitext(private)
    target = public or f"{stem if suffix in ('.key', '.pem') else private}.pub"
    key = make_keys(private, target)
    click.echo(f"{visible(target)}: key {key.key_id}")


_SIGN_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin sign --key release.key plugins/hydra
  0xgenctl plugin sign --key release.key build/scanner
  0xgenctl plugin sign --key release.key --signature scanner.sig build/scanner

\b
The signature is a base64 ECDSA signature over SHA-256, which cosign and
openssl verify too.
"""


@plugin.command("sign", epilog=_SIGN_EXAMPLES, short_help="Sign a plugin's artifact.")
@click.option("--key", required=True, type=FileName(), metavar="PRIVATE", help="the private key")
@click.option(
    "--signature",
    type=ReplacedFile(),
    metavar="FILE",
    help="where the signature goes  [default: as the manifest says, else FILE.sig]",
)
@click.argument("target", type=_TARGET, metavar="PLUGIN|FILE")
def sign(key: str, signature: str | None, target: str) -> None:
    """Sign the artifact of PLUGIN (a folder or manifest.json), or any FILE."""
    from ..integrity import sign_file

    bare, path = resolve(target)
    where = signature
    if not bare:
        path, named = _artifact_of(path)
        where = signature or named
    public = sign_file(path, key, where)
    click.echo(f"{visible(where or f'{path}.sig')}: signed by key {public.key_id}")


def _artifact_of(path: str) -> tuple[str, str]:
    """Return the artifact of a folder or manifest, and where its signature belongs."""
    from ..integrity.files import read_named
    from ..manifest import MAX_MANIFEST_BYTES, parse_manifest

    manifest_path = os.path.join(path, "manifest.json") if os.path.isdir(path) else path
    if "/" not in path:
        # ``resolve`` gives every path a slash: what has none was taken for a plugin's name.
        raise IntegrityError("not_found", "there is no such file or folder", path=path)
    manifest = parse_manifest(read_named(manifest_path, MAX_MANIFEST_BYTES))
    folder = os.path.dirname(manifest_path)
    return (
        os.path.join(folder, manifest.artifact),
        os.path.join(folder, manifest.signature_path),
    )


_APPROVE_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin approve hydra
  0xgenctl plugin approve --trust-root plugins plugins/hydra
  0xgenctl plugin approve plugins/hydra/manifest.json
"""


@plugin.command("approve", epilog=_APPROVE_EXAMPLES, short_help="Put a plugin on the ALLOWLIST.")
@trust_root_option
@click.argument("name", type=_TARGET, metavar="PLUGIN")
def approve(trust_root: str | None, name: str) -> None:
    """Put the manifest and the artifact of PLUGIN on the ALLOWLIST, as they are now.

    The manifest must be valid, and the artifact signed by a key of the trust root.
    """
    from ..integrity import approve_files

    root = locate(trust_root)
    for entry in approve_files(root, _managed(name)):
        click.echo(f"{entry.digest}  {visible(entry.path)}")


def _managed(name: str) -> str:
    bare, target = resolve(name)
    if bare:
        raise IntegrityError(
            "bad_path",
            "is a bare file; a plugin is a folder with manifest.json, or the manifest",
            path=name,
        )
    return target


_VERIFY_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin verify hydra
  0xgenctl plugin verify --trust-root plugins plugins/hydra
  0xgenctl plugin verify --key release.pub build/scanner

\b
Exit status: 0 verified, 1 not (the reason is on stderr), 2 usage.
"""


@plugin.command("verify", epilog=_VERIFY_EXAMPLES, short_help="Check a plugin as run would.")
@trust_root_option
@click.option(
    "--key", type=FileName(), metavar="PUBLIC", help="FILE must be signed by exactly this key"
)
@click.option(
    "--signature", type=FileName(), metavar="SIG", help="the signature  [default: FILE.sig]"
)
@click.argument("target", type=_TARGET, metavar="PLUGIN|FILE")
@click.pass_context
def verify(
    ctx: click.Context, trust_root: str | None, key: str | None, signature: str | None, target: str
) -> None:
    """Check PLUGIN as plugin run would: ALLOWLIST, manifest, signature. Nothing is started.

    Of a FILE that is no plugin folder and no manifest only the signature is checked.
    """
    if key is not None and trust_root is not None:
        raise click.UsageError("--key and --trust-root exclude each other; accepted: one", ctx)
    bare, path = resolve(target)
    if bare:
        _verify_file(path, key, signature, trust_root)
        return
    for option, value in (("--key", key), ("--signature", signature)):
        if value is not None:
            raise click.UsageError(
                f"{option} is for a single file; a plugin's key is one of the trust root's, its"
                " signature is named by the manifest",
                ctx,
            )
    from ..integrity import approve as check

    with check(path, locate(trust_root)) as approved:
        click.echo(
            f"{visible(approved.name)} {visible(approved.version)}: verified\n"
            f"artifact {approved.digest}\n"
            f"manifest {approved.manifest_digest}\n"
            f"signer   {approved.signer}"
        )
        if approved.manifest.description:
            click.echo(f"about    {visible(approved.manifest.description)}")
        if approved.manifest.trusted:
            click.echo("note     the manifest calls itself trusted; that is shown, never believed")


def _verify_file(path: str, key: str | None, signature: str | None, trust_root: str | None) -> None:
    from ..integrity import verify_file

    signer = verify_file(path, key or locate(trust_root), signature)
    click.echo(f"{visible(path)}: signed by key {signer.key_id}")


_LIST_EXAMPLES = """\
\b
Examples:
  0xgenctl plugin list
  0xgenctl plugin list --json --trust-root plugins

\b
Exit status: 0 every listed plugin would start, 1 one would not, 2 usage.
"""


@plugin.command("list", epilog=_LIST_EXAMPLES, short_help="List the approved plugins.")
@trust_root_option
@click.option("--json", "as_json", is_flag=True, help="print one JSON array")
@click.pass_context
def list_(ctx: click.Context, trust_root: str | None, as_json: bool) -> None:
    """List the plugins on the ALLOWLIST, and whether each would still start."""
    from ..integrity import listed

    root = locate(trust_root)
    rows = [_state(root, entry.path) for entry in listed(root) if entry.path.endswith(".json")]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_table(
            sys.stdout,
            ("plugin", "version", "state", "runtime", "capabilities", "reason"),
            [
                (
                    row["name"] or row["manifest"],
                    row["version"] or "",
                    row["state"],
                    row["runtime"] or "",
                    " ".join(row["capabilities"]),
                    row["error"] or "",
                )
                for row in rows
            ],
        )
    if any(row["error"] is not None for row in rows):
        ctx.exit(NO)


def _state(root: TrustRoot, manifest_path: str) -> dict[str, Any]:
    from ..integrity import approve as check

    row: dict[str, Any] = {
        "manifest": manifest_path,
        "name": None,
        "version": None,
        "state": "ok",
        "runtime": None,
        "description": None,
        "claims_trusted": None,
        "capabilities": [],
        "artifact_digest": None,
        "signer": None,
        "error": None,
    }
    try:
        with check(os.path.join(root.directory, manifest_path), root) as approved:
            row["name"], row["version"] = approved.name, approved.version
            row["runtime"] = approved.manifest.runtime
            row["description"] = approved.manifest.description
            row["claims_trusted"] = approved.manifest.trusted
            row["capabilities"] = list(approved.manifest.capabilities)
            row["artifact_digest"], row["signer"] = approved.digest, approved.signer
    except IntegrityError as exc:
        row["state"], row["error"] = exc.reason, str(exc)
    except ManifestError as exc:
        row["state"], row["error"] = "bad_manifest", str(exc)
    except OxgenError as exc:
        row["state"], row["error"] = "refused", str(exc)
    return row
