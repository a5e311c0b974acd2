"""What `import zoo` offers, for editors and type checkers; __init__.py has the same names."""

from zoo.api import evaluate as evaluate
from zoo.api import finetune as finetune
from zoo.api import list_models as list_models
from zoo.api import load as load
from zoo.api import rank as rank
from zoo.api import resume as resume
from zoo.api.model import Model as Model
from zoo.api.rows import Embedding as Embedding
from zoo.api.rows import Explanation as Explanation
from zoo.api.rows import ModelInfo as ModelInfo
from zoo.api.rows import Prediction as Prediction
from zoo.api.run import Report as Report
from zoo.api.run import Run as Run
from zoo.api.watching import Progress as Progress
from zoo.errors import ZooError as ZooError
from zoo.export.records import Exported as Exported
from zoo.finetune.describe import Line as Line
from zoo.finetune.events import FeaturesDone as FeaturesDone
from zoo.finetune.events import Finished as Finished
from zoo.finetune.events import Note as Note
from zoo.finetune.rank import Ranked as Ranked
from zoo.predict.evaluate import Measured as Measured
from zoo.train.records import Epoch as Epoch

__version__: str
