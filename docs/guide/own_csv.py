import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sksid import HypergradientSearchCV

table = pd.read_csv("my.csv")  # your file
target = "target"  # your column to predict

train, test = train_test_split(table, random_state=0)
columns = make_column_transformer(
    (
        make_pipeline(SimpleImputer(), StandardScaler()),
        make_column_selector(dtype_include="number"),
    ),
    (
        OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=5),
        make_column_selector(dtype_exclude="number"),
    ),
)
model = make_pipeline(columns, LogisticRegression())
search = HypergradientSearchCV(model, structure="blocks")
search.fit(train.drop(columns=target), train[target])

print("C of each kind of column:", search.block_params_)
print("CV log loss:", -search.best_score_)
predicted = search.predict(test.drop(columns=target))
print("test accuracy:", (predicted == test[target]).mean())
