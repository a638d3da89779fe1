"""The object store does what a checkpoint's manifest rests on: of many who put the same key on a condition, exactly one succeeds."""

import threading
import uuid

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

WRITERS = 8


def connect(s3, **other):
    """A client that does not retry; threads may share it, each has a connection of its own."""
    config = Config(retries={"total_max_attempts": 1}, max_pool_connections=WRITERS)
    keys = {"aws_access_key_id": s3["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": s3["AWS_SECRET_ACCESS_KEY"]} | other
    return boto3.session.Session().client("s3", endpoint_url=s3["AWS_ENDPOINT_URL"], region_name=s3["AWS_REGION"], config=config, **keys)


@pytest.fixture(scope="module")
def client(s3):
    return connect(s3)


@pytest.fixture
def bucket(client):
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=name)
    return name


def race(client, bucket, key, **condition):
    """All writers put at once; gives the numbers of those that succeeded. The others must have been told 412."""
    start, won, codes = threading.Barrier(WRITERS), [], []

    def write(i):
        start.wait()
        try:
            client.put_object(Bucket=bucket, Key=key, Body=f"{i}".encode(), **condition)
            won.append(i)
        except ClientError as e:
            codes.append(e.response["ResponseMetadata"]["HTTPStatusCode"])

    threads = [threading.Thread(target=write, args=(i,)) for i in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [412] * (WRITERS - 1)
    return won


def body(client, bucket, key):
    return client.get_object(Bucket=bucket, Key=key)["Body"].read().decode()


def test_a_second_conditional_put_conflicts(client, bucket):
    client.put_object(Bucket=bucket, Key="manifest", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as refusal:
        client.put_object(Bucket=bucket, Key="manifest", Body=b"second", IfNoneMatch="*")
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert refusal.value.response["Error"]["Code"] == "PreconditionFailed"
    assert body(client, bucket, "manifest") == "first"


def test_of_concurrent_creators_exactly_one_wins(client, bucket):
    for i in range(10):
        (winner,) = race(client, bucket, f"new/{i}", IfNoneMatch="*")
        assert body(client, bucket, f"new/{i}") == str(winner)


def test_of_concurrent_replacers_exactly_one_wins(client, bucket):
    for i in range(10):
        etag = client.put_object(Bucket=bucket, Key=f"old/{i}", Body=b"old")["ETag"]
        (winner,) = race(client, bucket, f"old/{i}", IfMatch=etag)
        assert body(client, bucket, f"old/{i}") == str(winner)


def test_a_conditional_multipart_upload_conflicts(client, bucket):
    client.put_object(Bucket=bucket, Key="large", Body=b"first")
    upload = client.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    part = client.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=1, Body=b"x" * (5 << 20))
    parts = {"Parts": [{"ETag": part["ETag"], "PartNumber": 1}]}
    with pytest.raises(ClientError, match="PreconditionFailed"):
        client.complete_multipart_upload(Bucket=bucket, Key="large", UploadId=upload, MultipartUpload=parts, IfNoneMatch="*")
    assert body(client, bucket, "large") == "first"


def test_what_was_put_survives_a_kill(client, bucket, services):
    client.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    services.run("kill", "s3")
    services.run("start", "s3")
    assert body(client, bucket, "kept") == "kept"


def test_a_wrong_secret_is_refused(s3):
    stranger = connect(s3, aws_secret_access_key="wrong")
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        stranger.list_buckets()
