"""``raft certs``, the files that it makes, and which of them a server takes."""

import argparse
import datetime
import errno
import logging
import os
import shlex
import ssl
import subprocess
import sys

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from raft import certifying, cli
from raft.certificate import Certificate, Role, Subject
from raft.certs import Authority, read
from raft.handshake import Identity
from raft.private import read_private, write_private
from tests.raft.certificates import DAY, Certs, now

JUNK = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"


@pytest.fixture
def raft(tmp_path, monkeypatch, capsys):
    """Run ``raft`` here; return its exit status, and what it printed."""
    monkeypatch.chdir(tmp_path)

    def raft(line):
        try:
            status = cli.main(shlex.split(line))
        except SystemExit as end:
            status = end.code
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return raft


@pytest.fixture
def made(raft):
    status, out, err = raft("certs make c --cluster demo --server 1..3 --client alice")
    assert (status, err) == (0, "")
    return out


class TestMaking:
    def test_one_file_for_each_and_one_line(self, made, tmp_path):
        names = ["server-1", "server-2", "server-3", "client-alice"]
        assert [line.split(":")[0] for line in made.splitlines()] == [
            f"c/{name}.pem" for name in names
        ]
        assert "server 2 of cluster 'demo', until 20" in made
        assert "(365 days)" in made
        files = sorted(path.name for path in (tmp_path / "c").iterdir())
        assert files == sorted(["ca.pem", *(f"{name}.pem" for name in names)])

    def test_for_their_owners_eyes_alone_whatever_the_umask(self, raft, tmp_path):
        before = os.umask(0)
        try:
            assert raft("certs make c --cluster demo --server 1 --client a")[0] == 0
        finally:
            os.umask(before)
        assert (tmp_path / "c").stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()} == {0o600}

    def test_what_others_would_believe(self, made, tmp_path):
        one = Certificate(tmp_path / "c" / "server-1.pem")
        assert one.subject == Subject("demo", Role.SERVER, "1")
        assert one.subject.server == 1
        alice = Certificate(tmp_path / "c" / "client-alice.pem")
        assert (alice.subject.role, alice.subject.name) == (Role.CLIENT, "alice")
        assert abs(alice.until - now() - 365 * DAY) < DAY

    def test_the_cas_key_is_in_no_other_file(self, made, tmp_path):
        key = (tmp_path / "c" / "ca.pem").read_text().split("-----END PRIVATE")[0]
        for path in (tmp_path / "c").glob("*-*.pem"):
            assert key not in path.read_text()
            assert path.read_text().count("PRIVATE KEY-----") == 2

    def test_only_the_ca_may_sign(self, made, tmp_path):
        for path in (tmp_path / "c").iterdir():
            extensions = x509.load_pem_x509_certificate(path.read_bytes()).extensions
            constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = extensions.get_extension_for_class(x509.KeyUsage).value
            is_authority = path.name == "ca.pem"
            assert (constraints.ca, usage.key_cert_sign) == (is_authority, is_authority)
            assert usage.digital_signature != is_authority

    def test_more_of_them_later(self, made, raft, tmp_path):
        before = (tmp_path / "c" / "ca.pem").read_bytes()
        status, out, _ = raft("certs make c --server 4 --observer eve")
        assert (status, out.count("\n")) == (0, 2)
        assert (tmp_path / "c" / "ca.pem").read_bytes() == before
        assert Certificate(tmp_path / "c" / "observer-eve.pem").subject.role is Role.OBSERVER

    def test_nobody_was_named(self, raft, tmp_path):
        status, out, _ = raft("certs make c --cluster demo")
        assert status == 0
        assert "c/ca.pem: ca " in out
        assert "nobody was named: add --server ID" in out
        assert [path.name for path in (tmp_path / "c").iterdir()] == ["ca.pem"]

    def test_nothing_is_overwritten_and_then_nothing_made(self, made, raft, tmp_path):
        before = (tmp_path / "c" / "server-3.pem").read_bytes()
        status, out, err = raft("certs make c --server 5 --server 3")
        assert (status, out) == (1, "")
        assert "server-3.pem is there already; 'raft certs renew' makes a new one" in err
        assert (tmp_path / "c" / "server-3.pem").read_bytes() == before
        assert not (tmp_path / "c" / "server-5.pem").exists()

    def test_none_outlives_the_ca(self, tmp_path):
        authority = Authority.new("demo", days=10)
        path = tmp_path / "server"
        write_private(path, authority.issue(Subject("demo", Role.SERVER, "1"), days=365))
        assert read(path).ends - now() < 10 * DAY

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("certs make new --server 1", "new/ca.pem: there is no CA yet, so give the cluster's"),
            ("certs make c --cluster other --server 9", "this is the CA of cluster 'demo'"),
            (f"certs make new --cluster {'x' * 201}", "a cluster's name has 1 to 200 bytes"),
            ("certs make new --cluster \udcff", "a cluster's name has 1 to 200 bytes of UTF-8\n"),
            ("certs make open --cluster demo --server 1", "others may use this directory"),
            ("certs make junk --cluster demo", "junk: this is no directory\n"),
            ("certs make no/where --cluster demo", "no/where: No such file or directory"),
            ("certs renew new", "new/ca.pem: No such file or directory"),
            ("certs renew c nothing.pem", "nothing.pem: No such file or directory"),
            ("certs renew c c/ca.pem", "the CA of cluster 'demo' made no ca "),
            ("certs show nothing.pem", "nothing.pem: No such file or directory"),
            ("certs show junk", "junk: this is no certificate\n"),
            (
                "certs make bad --server 1",
                "bad/ca.pem: there should be a CA's key and certificate\n",
            ),
        ],
    )
    def test_what_cannot_be_done(self, made, raft, tmp_path, line, reason):
        (tmp_path / "open").mkdir(mode=0o755)
        (tmp_path / "junk").write_text("junk")
        (tmp_path / "bad").mkdir(mode=0o700)
        write_private(tmp_path / "bad/ca.pem", b"junk")
        status, out, err = raft(line)
        assert (status, out) == (1, "")
        assert err.startswith(f"raft certs {line.split()[1]}: ")
        assert reason in err
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("certs", "the following arguments are required: ACTION"),
            ("certs make c --server 0", "'0' is no range of servers"),
            ("certs make c --server 3..1", "'3..1' is no range of servers: 1..3 is"),
            ("certs make c --server 1..9999", "is no range of servers"),
            ("certs make c --server one", "'one' is no server: 1 is, or 1..3"),
            (f"certs make c --server {'1' * 5000}", "is no server: 1 is, or 1..3"),
            ("certs make c --client ../x", "'../x' is no name"),
            ("certs make c --client ''", "'' is no name"),
            ("certs make c --days 0", "'0' is no number of days"),
            ("certs make c --days forever", "'forever' is no number of days"),
            ("certs show", "the following arguments are required: FILE"),
        ],
    )
    def test_wrong_usage(self, raft, line, reason):
        status, out, err = raft(line)
        assert (status, out) == (2, "")
        assert reason in err

    def test_another_clusters_are_not_renewed(self, made, raft):
        assert raft("certs make other --cluster other --server 1")[0] == 0
        status, _, err = raft("certs renew c other/server-1.pem")
        assert status == 1
        assert "the CA of cluster 'demo' made no server 1 of cluster 'other'" in err


SERVE = "serve --data d --certificate c/server-1.pem --listen"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"{SERVE} 0.0.0.0:7001 --id 1", "nobody can call 0.0.0.0:7001: --advertise an address"),
        (f"{SERVE} [::]:7001 --id 1", "nobody can call [::]:7001: --advertise an address"),
        (f"{SERVE} 0:7001 --id 1", "nobody can call 0:7001: --advertise an address"),
        (f"{SERVE} 0.0:7001 --id 1", "nobody can call 0.0:7001: --advertise an address"),
        (f"{SERVE} [::0]:7001 --id 1", "nobody can call [::0]:7001: --advertise an address"),
        (f"{SERVE} :::7001 --id 1", "there can be no host '::'"),
        (f"{SERVE} 127.0.0.1:0 --id 2", "is that of server 1 of cluster 'demo', and this is serv"),
        (f"{SERVE} 127.0.0.1:0 --id 1 --cluster other", "and this is server 1 of cluster 'other'"),
    ],
)
def test_a_server_whose_certificate_does_not_fit(made, raft, line, reason):
    status, out, err = raft(line)
    assert (status, out) == (2, "")
    assert reason in err


class TestRenewing:
    def test_all_of_them_by_new_keys_and_the_same_names(self, made, raft, tmp_path):
        before = {path: path.read_text() for path in (tmp_path / "c").iterdir()}
        status, out, _ = raft("certs renew c --days 100")
        assert (status, out.count("\n"), out.count("(100 days)")) == (0, 4, 4)
        after = {path: path.read_text() for path in (tmp_path / "c").iterdir()}
        assert before.keys() == after.keys()
        for path, text in after.items():
            assert (text == before[path]) == (path.name == "ca.pem")
            assert path.stat().st_mode & 0o777 == 0o600
        key = "-----END PRIVATE"
        one = tmp_path / "c" / "server-1.pem"
        assert before[one].split(key)[0] != after[one].split(key)[0]
        assert Certificate(one).subject.server == 1

    def test_one_of_them_and_after_a_renewal_that_was_broken_off(self, made, raft, tmp_path):
        one, two = (tmp_path / "c" / f"server-{number}.pem" for number in (1, 2))
        (tmp_path / "c" / ".server-1.pem.new").write_text("half of i")
        before = one.read_bytes(), two.read_bytes()
        assert raft("certs renew c c/server-1.pem")[0] == 0
        assert one.read_bytes() != before[0]
        assert two.read_bytes() == before[1]
        assert not (tmp_path / "c" / ".server-1.pem.new").exists()


class TestShowing:
    def test_who_and_until_when(self, made, raft):
        status, out, _ = raft("certs show c/server-1.pem c/client-alice.pem c/ca.pem")
        assert status == 0
        one, alice, authority = out.splitlines()
        assert one.startswith("c/server-1.pem: server 1 of cluster 'demo', until 20")
        assert alice.startswith("c/client-alice.pem: client alice of cluster 'demo', until 20")
        assert authority.startswith("c/ca.pem: ca ")
        assert authority.endswith("(3650 days)")

    def test_what_is_wrong_with_it(self, raft, tmp_path):
        certs = Certs(tmp_path / "c", "demo")
        certs.file(Role.SERVER, 1, days=29)
        certs.file(Role.SERVER, 2, days=1, begins=now() - 2 * DAY)
        certs.file(Role.SERVER, 3, days=1, begins=now() + 2 * DAY)
        _, out, _ = raft("certs show c/server-1.pem c/server-2.pem c/server-3.pem")
        near, past, future = out.splitlines()
        assert near.endswith("(29 days: renew it)")
        assert ", EXPIRED 20" in past
        assert ", NOT VALID before 20" in future

    def test_another_tool_reads_the_same(self, made, tmp_path):
        """What the file holds is no secret of ours: ``ssl`` decodes the CA's certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(tmp_path / "c" / "ca.pem")
        (decoded,) = context.get_ca_certs()
        ((kind, uri),) = decoded["subjectAltName"]
        assert kind == "URI"
        assert uri.startswith("raft://demo/ca/")


class TestSubject:
    @given(st.text(min_size=1, max_size=60), st.sampled_from(Role), st.integers(1, 2**63 - 1))
    def test_there_and_back(self, cluster, role, number):
        subject = Subject(cluster, role, str(number))
        assert Subject.of([subject.uri]) == subject
        assert subject.uri.isascii()
        assert subject.uri.count("/") == 4

    @pytest.mark.parametrize(
        "uris",
        [
            [],
            ["https://example.org/"],
            ["raft://demo/server/1", "raft://demo/server/2"],
            ["raft://demo/server/1", "raft://demo/server/1"],
            ["raft://demo/server"],
            ["raft://demo/server/1/2"],
            ["raft://demo/king/1"],
            ["raft://demo/server/"],
            ["raft://demo/server/one"],
            ["raft://demo/server/01"],
            ["raft://demo/server/-1"],
            ["raft://demo/server/0"],
            ["raft://demo/server/\u0661"],
            ["raft://demo/server/%31"],
            ["raft://demo/client/"],
            ["raft:///client/alice"],
            ["raft://%FF/client/alice"],
            ["raft://a b/client/alice"],
            ["RAFT://demo/server/1"],
        ],
    )
    def test_what_names_nobody(self, uris):
        with pytest.raises(ValueError, match="no member of a cluster"):
            Subject.of(uris)

    def test_other_names_do_not_matter(self):
        uris = ["https://example.org/", "raft://demo/server/1"]
        assert Subject.of(uris).server == 1


class TestWhichFilesAreTaken:
    @pytest.fixture
    def certs(self, tmp_path):
        return Certs(tmp_path / "certs")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
    def test_none_that_others_may_read(self, certs, mode):
        path = certs.file(Role.SERVER, 1)
        path.chmod(mode)
        with pytest.raises(ValueError, match=f"others may use this file \\(mode {mode:04o}\\)"):
            Certificate(path)

    def test_none_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            Certificate(tmp_path / "nowhere")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda parts: [], "there should be a certificate, its key, and a CA's"),
            (lambda parts: parts[:2], "there should be a certificate, its key, and a CA's"),
            (lambda parts: parts[1:], "cannot be used"),
            (
                lambda parts: [
                    *parts[:2],
                    "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----",
                ],
                "cannot",
            ),
        ],
        ids=["empty", "no CA", "no key", "no certificate"],
    )
    def test_none_that_lacks_something(self, certs, spoil, words):
        path = certs.file(Role.SERVER, 1)
        text = path.read_text().replace("-----\n-----", "-----\n\0-----")
        path.write_text("\n".join(spoil(text.split("\0"))))
        with pytest.raises(ValueError, match=words) as caught:
            Certificate(path)
        assert str(path) in str(caught.value)

    def test_none_with_the_key_of_another(self, certs):
        path, other = certs.file(Role.SERVER, 1), certs.file(Role.SERVER, 2)
        end = "-----END PRIVATE KEY-----\n"
        path.write_text(other.read_text().split(end)[0] + end + path.read_text().split(end)[1])
        with pytest.raises(ValueError, match=r"cannot be used: .*KEY_VALUES_MISMATCH|mismatch"):
            Certificate(path)

    def test_none_whose_key_asks_for_a_password(self, certs):
        """It would be asked for at the terminal, of which a server has none."""
        from cryptography.hazmat.primitives import serialization

        path = certs.file(Role.SERVER, 1)
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
        end = b"-----END PRIVATE KEY-----\n"
        path.write_bytes(secret + path.read_bytes().split(end)[1])
        with pytest.raises(ValueError, match="cannot be used"):
            Certificate(path)

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ({"days": 1, "begins": now() - 2 * DAY}, "certificate has expired"),
            ({"begins": now() + DAY}, "certificate is not yet valid"),
        ],
    )
    def test_none_that_others_would_not_believe(self, certs, kind, words):
        with pytest.raises(ValueError, match=words):
            certs.server(1, **kind)

    def test_none_of_another_cluster_server_or_role(self, certs):
        one, alice = certs.server(1), certs.client()
        assert Identity("test", 1, one).server == 1
        assert Identity("test", None, one).server is None, "as a client"
        for cluster, server, certificate in [
            ("other", 1, one),
            ("test", 2, one),
            ("other", None, one),
            ("other", None, alice),
            ("test", 1, alice),
        ]:
            with pytest.raises(ValueError, match="the certificate is that of"):
                Identity(cluster, server, certificate)

    def test_a_reminder_in_the_last_thirty_days(self, certs, caplog):
        caplog.set_level(logging.WARNING)
        certs.server(1, days=31).remind()
        assert caplog.text == ""
        certs.server(1, days=29).remind()
        ends = (now() + 29 * DAY).strftime("the certificate ends on %Y-%m-%d")
        assert ends in caplog.text


def test_a_private_file_is_new_and_for_its_owner_alone(tmp_path):
    path = tmp_path / "key"
    write_private(path, b"secret")
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_private(path) == b"secret"
    with pytest.raises(FileExistsError):
        write_private(path, b"other")
    assert path.read_bytes() == b"secret"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_private(tmp_path / "link", b"lured away")
    assert not (tmp_path / "elsewhere").exists()


def test_a_private_file_that_cannot_be_written_is_not_left_behind(tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.EFBIG, "File too large")

    path = tmp_path / "key"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="File too large"):
            write_private(path, b"secret")
    write_private(path, b"secret")


def test_the_examples_in_the_help_are_right():
    commands = [line for line in certifying.EPILOG.splitlines() if line.startswith("  raft ")]
    assert len(commands) == 4
    parsed: list[argparse.Namespace] = [
        cli._parser().parse_args(shlex.split(command, comments=True)[1:]) for command in commands
    ]
    assert parsed[0].server == ["1", "2", "3"]


def test_only_making_certificates_loads_cryptography():
    """It takes longer to load than a whole ``raft get`` takes."""
    program = (
        "import sys, raft.cli, raft.using, raft.serving\n"
        "assert 'ssl' in sys.modules\n"
        "assert not {'cryptography', 'cffi'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_certificate_counts_a_little_before_it_is_made(tmp_path):
    """Servers' clocks differ."""
    certs = Certs(tmp_path / "c")
    facts = read(certs.file(Role.SERVER, 1))
    assert now() - facts.begins > datetime.timedelta(minutes=59)
