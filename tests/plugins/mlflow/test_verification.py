"""``rankzero sync --verify`` reads metrics back from MLflow."""

import shutil
import sqlite3
from contextlib import closing


def test_differences_are_found_and_nothing_is_changed(store, verifying):
    out = verifying.deliver("mlflow", f"save_dir={store}", "prefix=try")
    assert f" at sqlite:///{store}/mlflow.db: no difference" in out
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        database.execute("DELETE FROM metrics WHERE key = 'try-loss' AND step = 7")
        database.execute("UPDATE metrics SET value = 0.25 WHERE key = 'try-loss' AND step = 3")
        database.execute(
            "INSERT INTO metrics SELECT key, value, timestamp + 1, run_uuid, step, is_nan FROM metrics "
            "WHERE key = 'try-loss' AND step = 0"
        )
    before = (store / "mlflow.db").read_bytes()
    verifying.expect_differences()
    assert (store / "mlflow.db").read_bytes() == before


def test_a_missing_database_is_not_created(store, verifying):
    verifying.deliver("mlflow", f"save_dir={store}")
    shutil.rmtree(store)
    status, _, err = verifying.verify()
    assert (status, store.exists()) == (1, False)
    assert "  late: 1 of 1 missing (step 10)\n" in err
