"""The package's metadata: what settings.ini says, and the dependencies."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

# What predicting needs: a table, a contract, a model file.
predict = [
    "joblib>=1.4",
    "numpy>=2.1",
    "pandas>=3.0",
    "pandera>=0.29",
    "pyarrow>=18",
    "onnx>=1.19",
    "onnxruntime>=1.22",
    "pydantic>=2.10",
    "pydantic-settings>=2.7",
    "scikit-learn>=1.8,<1.10",
    "scipy>=1.14",
    "skops>=0.13",
    "structlog>=24.4",
    "threadpoolctl>=3.5",
]
# What running a study needs besides.
run = [
    "beautifulsoup4>=4.12",
    "bleach[css]>=6.2",
    "filelock>=3.16",
    "ipykernel>=7",
    "jinja2>=3.1",
    "mapie>=1.6",
    "markupsafe>=3",
    "matplotlib>=3.10",
    "mistune>=3.1",
    "mlflow>=3.17,<3.18",
    "nbclient>=0.10",
    "nbconvert>=7.16",
    "nbdime>=4.0.4",
    "nbformat>=5.10",
    "optuna>=5",
    "packaging>=24",
    "papermill>=2.7",
    "plotly>=6.5",
    "pyyaml>=6",
    "rich>=14",
    "rocrate>=0.16",
    "seaborn>=0.13.2",
    "skl2onnx>=1.20",
    "skrub>=0.11",
    "typer>=0.29",
]
lab = ["jupyterlab>=4.4"]
postgres = ["psycopg[binary]>=3.2"]
dev = [
    *lab,
    *postgres,
    "execnb<0.2",
    "fastcore<2",
    "ghapi<2",
    "hypothesis>=6.130",
    "mypy>=1.18",
    "nbdev==2.4.14",
    "pandas-stubs>=2.3",
    "playwright>=1.50",
    "psutil>=7",
    "pytest>=9",
    "pytest-xdist>=3.8",
    "ruff>=0.14",
    "types-pyyaml",
    "uv>=0.8",
]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8") if (here / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    author=settings["author"],
    license="MIT",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["iris_nb", "iris_nb.*"]),
    package_data={"iris_nb": ["py.typed", "templates/*", "templates/*/*"]},
    install_requires=predict + run,
    extras_require={"lab": lab, "postgres": postgres, "dev": dev},
    entry_points={"console_scripts": settings["console_scripts"].split()},
    zip_safe=False,
)
