"""Private parts of MLflow's client that the plugin uses: a test fails if a new version changes them.

Only `rankzero_mlflow.client` uses them.
"""

import inspect

from mlflow.utils import rest_utils


def test_all_requests_use_one_function_with_a_number_of_retries():
    request = inspect.unwrap(rest_utils._get_http_response_with_retries)
    assert list(inspect.signature(request).parameters)[:3] == ["method", "url", "max_retries"]
    assert "_get_http_response_with_retries(\n" in inspect.getsource(rest_utils.http_request)


def test_a_courier_does_not_print_the_address_of_the_run(make_logger, mlflow_server, run_info, capsys):
    for attached in (False, True):
        logger = make_logger(tracking_uri=mlflow_server.uri)
        if attached:
            logger.attach(run_info)
        logger.log_metrics({"a": 1}, 0)
        logger.finalize("success")
        assert (mlflow_server.uri in capsys.readouterr().out) == (not attached)
